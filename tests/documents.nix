# Every path that a document names in backticks exists: { document; missing = [ paths ]; } for each document.
{ root }:
let
  inherit (builtins) concatLists filter isList isString map match pathExists readFile split;

  quoted = text: concatLists (map (piece: if isList piece then piece else [ ]) (split "`([^`\n]+)`" text));

  # A path of the repository starts with a room's name or is a file at the top.
  named = word:
    match "(modules|images|agent|tests|\\.ci)/[A-Za-z0-9_./-]*" word != null
    || match "(flake\\.nix|nixw|Cargo\\.toml|Cargo\\.lock|README\\.md|ARCHITECTURE\\.md|LICENSE)" word != null;

  missing = document:
    filter (word: ! pathExists (root + "/${word}")) (filter named (quoted (readFile (root + "/${document}"))));
in
map (document: { inherit document; missing = missing document; }) [ "README.md" "ARCHITECTURE.md" ]
