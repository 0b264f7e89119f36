"""The collections that a server holds: loaded onto the device, admitted to its memory, maintained on disk."""
