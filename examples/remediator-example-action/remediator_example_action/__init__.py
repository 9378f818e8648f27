"""An action of a third party. The entry point in pyproject.toml names the class."""

from remediator_example_action.touch import Touch, TouchConnection, TouchParams

__all__ = ["Touch", "TouchConnection", "TouchParams"]
