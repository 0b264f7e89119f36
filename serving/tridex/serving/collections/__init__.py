"""The collections that a server holds: loaded, admitted, maintained and monitored."""
