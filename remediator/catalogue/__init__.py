"""What the installed actions say of themselves, for `remediator actions` and docs/actions.md."""
