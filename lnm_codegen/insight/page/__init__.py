"""HTML pages: one file with inline figures. A page runs no script and loads no other file.

run_page(found)             what a trained network learned, `lnm analyze RUN`
comparison_page(found)      two networks in fixed point, `lnm report`
"""

from lnm_codegen.insight.page.comparison import comparison_page as comparison_page
from lnm_codegen.insight.page.run import run_page as run_page
