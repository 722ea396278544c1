"""Write the notebooks as a website, from their committed outputs.

python -m tools.site
"""

from sbert_lab._utils import project_root
from tools.site.pages import build

if __name__ == "__main__":
    for page in reversed(build(project_root() / "build" / "site")):
        print(f"{page.stat().st_size // 1_000:5} KB  {page}")
