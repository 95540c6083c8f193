# The images this flake builds, each a list of modules.
{
  consul-server = [ "consul-server" { name = "consul-server"; } ];

  consul-server-metal = [ "consul-server" "metal" { name = "consul-server-metal"; } ];

  postgres = [ "postgres" { name = "postgres"; } ];

  redis = [ "redis" { name = "redis"; } ];
}
