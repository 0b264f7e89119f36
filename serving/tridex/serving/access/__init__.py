"""Who may do what: API keys and their rights. Every request to a served model is checked here, and nowhere else."""
