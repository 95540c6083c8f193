# A role of our own: a Debian package, a unit, a port, and the check that decides whether a boot was good.
{
  imports = [ "base" ];

  name = "greeter";
  version = "1.0.0";

  packages = [ "netcat-openbsd" ];

  files."/usr/share/greeter/greeting".text = "hello from greeter\n";

  units."greeter.service" = {
    enable = true;
    text = ''
      [Unit]
      Description=Greet whoever connects
      After=network.target

      [Service]
      DynamicUser=yes
      ExecStart=/bin/sh -c 'while :; do nc -N -l -p 7000 < /usr/share/greeter/greeting; done'
      Restart=always

      [Install]
      WantedBy=multi-user.target
    '';
  };

  role = {
    name = "greeter";
    service = "greeter";
    ports.greeter = { port = 7000; protocol = "tcp"; from = "site"; };
    checks.greeter = {
      gate = true;
      intervalSecs = 10;
      timeoutSecs = 3;
      kind = { type = "unit"; unit = "greeter.service"; };
    };
  };
}
