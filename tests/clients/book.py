"""The pages as a site: mdBook builds it without a complaint, and every link of it leads to something that is there."""

import html.parser
import pathlib
import shutil
import subprocess
import tempfile
import urllib.parse

from glyph_client import REPOSITORY


class Links(html.parser.HTMLParser):
    """The targets and the ids of a page."""

    def __init__(self, text):
        super().__init__()
        self.targets = []
        self.ids = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if "id" in attributes:
            self.ids.add(attributes["id"])
        self.targets += [attributes[name] for name in ("href", "src") if attributes.get(name)]


def main(checks):
    mdbook = shutil.which("mdbook")
    if mdbook is None:
        print("  left out: mdBook is not there: cargo install mdbook --locked")
        return
    with tempfile.TemporaryDirectory() as folder:
        site = pathlib.Path(folder, "site")
        built = subprocess.run(
            [mdbook, "build", "--dest-dir", site, REPOSITORY], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
        )
        said = built.stdout + built.stderr
        complaints = [line for line in said.splitlines() if "WARN" in line or "ERROR" in line]
        if not checks.true("mdbook build", built.returncode == 0 and not complaints, said):
            return
        # `print.html` has all pages as one, with links of its own making; some examples are HTML themselves.
        made = [path for path in site.rglob("*.html") if path.name not in ("404.html", "print.html")]
        made = [path for path in made if not (REPOSITORY / "book" / path.relative_to(site)).exists()]
        pages = {path: Links(path.read_text()) for path in made}
        faults, followed = [], 0
        for path, page in pages.items():
            for target in page.targets:
                url = urllib.parse.urlsplit(target)
                if url.scheme or url.netloc:
                    continue
                followed += 1
                file = (path.parent / urllib.parse.unquote(url.path)).resolve() if url.path else path
                where = path.relative_to(site)
                if not file.is_file():
                    faults.append(f"{where}: {target}")
                elif url.fragment and file in pages and urllib.parse.unquote(url.fragment) not in pages[file].ids:
                    faults.append(f"{where}: {target}: no such heading")
        checks.all("every link of the site leads to something", faults)
        checks.true("a site of pages with links", len(pages) > 25 and followed > 1000, f"{len(pages)} pages, {followed} links")
