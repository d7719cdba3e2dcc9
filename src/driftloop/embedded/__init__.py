"""The embedded platform: every component as a process of this machine, supervised, with its state in one folder."""
