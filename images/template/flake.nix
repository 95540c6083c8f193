{
  description = "Machine images of our own, on top of Ballast";

  # Where your copy of Ballast is: `nix registry add ballast <reference>` gives it this name.
  inputs.ballast.url = "flake:ballast";

  outputs = { self, ballast }:
    let
      images.our-consul-server = ballast.lib.mkImage {
        modules = [
          "consul-server"
          {
            name = "our-consul-server";
            # A unit of our own. For a package of our own, name it under `packages`, let
            # `nix run ballast#lock -- --lock debian.lock.json` resolve it, and pass `lock = ./debian.lock.json;` to mkImage.
            units."greeting.service" = {
              enable = true;
              text = ''
                [Unit]
                Description=Greets on the console

                [Service]
                Type=oneshot
                ExecStart=/usr/bin/echo hello from our own image
                StandardOutput=journal+console

                [Install]
                WantedBy=multi-user.target
              '';
            };
          }
        ];
      };
    in
    {
      packages.x86_64-linux = images // { default = images.our-consul-server; };
      lib.wanted = ballast.lib.wantedFor images;
    };
}
