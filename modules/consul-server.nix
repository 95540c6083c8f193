# A Consul server: one of the three or five that hold the site's catalogue, and elect a leader among themselves.
{
  imports = [ ./base.nix ];

  role = {
    name = "consul-server";
    healthyWithinSecs = 300;
    # Consul registers the service `consul` for its servers itself.
    ports = {
      consul-rpc = { port = 8300; protocol = "tcp"; from = "site"; };
      consul-wan = { port = 8302; protocol = "tcp"; from = "site"; };
      consul-wan-udp = { port = 8302; protocol = "udp"; from = "site"; };
      # Who is primary, for clients outside as well: nodes and services of the site, to be read.
      consul-dns = { port = 8600; protocol = "tcp"; from = "clients"; };
      consul-dns-udp = { port = 8600; protocol = "udp"; from = "clients"; };
      # Answers only those who show a certificate of the site's authority.
      consul-https = { port = 8501; protocol = "tcp"; from = "site"; };
    };
    checks.consul-unit = {
      gate = true;
      intervalSecs = 5;
      timeoutSecs = 3;
      kind = { type = "unit"; unit = "consul.service"; };
    };
  };
}
