# Composes modules and lowers them to one spec, the document `modules/contract` types.
#
# A module is an attribute set of the options in `options.nix`, or a function from the composed result to one.
# Later modules win: attribute sets merge, lists append, a plain value replaces, `null` takes an attribute away
# (JSON merge patch, RFC 7396, but for the lists).
let
  inherit (builtins)
    attrNames concatLists concatStringsSep elem filter foldl' head isAttrs isFunction isList length map
    removeAttrs;

  options = import ./options.nix;

  merge = old: new:
    if isAttrs old && isAttrs new then
      foldl' (sum: name:
        if new.${name} == null then removeAttrs sum [ name ]
        else sum // { ${name} = if sum ? ${name} then merge sum.${name} new.${name} else new.${name}; }
      ) old (attrNames new)
    else if isList old && isList new then old ++ new
    else if isAttrs old != isAttrs new || isList old != isList new then
      throw "ballast: a module gives a ${builtins.typeOf new} where an earlier one gave a ${builtins.typeOf old}"
    else new;

  # Places that are no option, as sentences; `any` stands for names the author chooses.
  unknown = place: option: value:
    if ! isAttrs option || ! isAttrs value then [ ]
    else concatLists (map (name:
      if option ? any then unknown "${place}${name}." option.any value.${name}
      else if option ? ${name} then unknown "${place}${name}." option.${name} value.${name}
      else [ "${place}${name} is no option; options here: ${concatStringsSep ", " (attrNames option)}" ]
    ) (attrNames value));

  load = final: module:
    let
      # Ballast's own modules go by name, so that another flake need not know their place.
      value =
        if builtins.isString module then import (./. + "/${module}.nix")
        else if builtins.isPath module then import module
        else module;
      body = if isFunction value then value final else value;
      # `imports` brings in other modules, before this one's own settings.
      imported = concatLists (map (load final) (body.imports or [ ]));
    in imported ++ [ (removeAttrs body [ "imports" ]) ];

  # Kinds of checks whose answer depends on other machines: `CheckKind::is_local` of the contract is the same list.
  asksOthers = [ "consul_leader" "redis_replication" "redis_role" "redis_sentinel" ];

  twice = list: filter (value: length (filter (other: other == value) list) > 1) list;

  assertions = image:
    let
      uids = map (name: image.users.${name}.uid) (attrNames image.users);
      gids = map (name: image.groups.${name}.gid) (attrNames image.groups);
      checks = map (name: image.role.checks.${name} // { inherit name; }) (attrNames image.role.checks);
    in [
      {
        check = twice uids == [ ];
        message = "user id ${toString (head (twice uids ++ [ 0 ]))} is given to more than one user";
      }
      {
        check = twice gids == [ ];
        message = "group id ${toString (head (twice gids ++ [ 0 ]))} is given to more than one group";
      }
    ] ++ map (user: {
      check = image.groups ? ${image.users.${user}.group};
      message = "users.${user}.group is ${image.users.${user}.group}, which no module declares under groups";
    }) (attrNames image.users)
    ++ map (c: {
      check = c.timeoutSecs <= c.intervalSecs;
      message = "role.checks.${c.name} times out after ${toString c.timeoutSecs} s, beyond its interval of ${toString c.intervalSecs} s";
    }) checks
    ++ map (c: {
      check = !((c.gate or false) && elem c.kind.type asksOthers);
      message = "role.checks.${c.name} asks other nodes, so it may not gate a boot";
    }) checks
    ++ image.assertions;

  refuse = image: sentences: result:
    if sentences == [ ] then result
    else throw "ballast: image ${image.name or "without a name"}: ${concatStringsSep "; " sentences}";

  # Unknown options are looked for in the result, so that a module may decide from `final` which names it sets.
  compose = modules:
    let final = foldl' merge options.defaults (concatLists (map (load final) modules));
    in refuse final (unknown "" options.tree final) final;
in
{
  inherit compose;

  # The packages of the closure that an image of these modules does without.
  withoutPackages = { modules }: attrNames (compose modules).withoutPackages;

  # evaluate { modules = [ ... ]; } -> the spec, an attribute set ready for `builtins.toJSON`.
  evaluate = { modules }:
    let
      image = compose modules;
      failed = filter (a: ! a.check) (assertions image);
    in refuse image (map (a: a.message) failed) (import ./lower.nix image);
}
