"""The served models, one file each, named like its folder in model_repository/."""
