# PostgreSQL's just-in-time compilation, for an image that asks for it: `modules = [ "postgres" "postgres-jit" ];`. Adds LLVM,
# which is larger than all the rest of PostgreSQL.
{
  withoutPackages = { libllvm19 = null; libz3-4 = null; };
}
