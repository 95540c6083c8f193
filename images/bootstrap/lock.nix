# This flake's own lock.
builtins.fromJSON (builtins.readFile ../debian.lock.json)
