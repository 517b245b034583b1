"""The lines to a guest: console, shell, QMP monitor, gdbstub. The host owns every socket."""
