"""What every test has: the real servers, and a watch on leaked tasks."""

pytest_plugins = ["tests.support.fixtures", "tests.support.tasks", "tests.support.contract"]
