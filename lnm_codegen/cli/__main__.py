"""`python -m lnm_codegen.cli`: the command `lnm`."""

from lnm_codegen.cli import main

main()
