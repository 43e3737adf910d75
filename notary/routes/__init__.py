"""The routes of the control API (docs: interfaces, "Control API of the notary")."""
