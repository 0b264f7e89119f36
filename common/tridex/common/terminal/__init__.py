"""The terminal: results on standard output, errors as one line on standard error, exit statuses, progress."""
