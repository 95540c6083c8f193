# The images this flake builds, each a list of modules.
{
  consul-server = [ ../modules/consul-server.nix { name = "consul-server"; } ];

  consul-server-metal = [ ../modules/consul-server.nix ../modules/metal.nix { name = "consul-server-metal"; } ];
}
