"""What the command ``notify`` does, one module a group. Heavy imports happen inside the commands: ``--help`` must be quick."""
