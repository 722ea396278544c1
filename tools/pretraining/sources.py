"""The sources of the pre-training corpus: Debian packages with English prose.

Each entry names a package, the reader of `tools.pretraining.readers` that fits its
files, where they lie in the unpacked package, their licence by the package's
``debian/copyright``, and a weight. General prose comes first and is shown in full;
the manuals of programs weigh less.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where a source's files lie and how they are read.

    Parameters
    ----------
    package
        Name of the package, which may hold ``*``; empty for files that lie beside
        the packages.
    reader
        A key of `tools.pretraining.readers.READERS`.
    patterns
        Where the files lie in the unpacked package.
    licence
        As the package states it.
    weight
        The share of the source that one pass over the corpus shows: 1 shows all of
        it, 0.5 another half of it in every pass.
    exclude
        Regular expression; files whose path matches are left out.
    """

    package: str
    reader: str
    patterns: tuple[str, ...]
    licence: str
    weight: float = 1.0
    exclude: str = ""


_DOC = "usr/share/doc"
_HTML = (f"{_DOC}/**/*.html", f"{_DOC}/**/*.htm", f"{_DOC}/**/*.html.gz")

#: The order decides who keeps a paragraph that two of them have.
SOURCES: dict[str, Source] = {
    "wordnet": Source(
        "dict-wn", "wordnet", ("usr/share/dictd/*.index",), "WordNet-3.0"
    ),
    "gcide": Source("dict-gcide", "dictd", ("usr/share/dictd/*.index",), "GPL-2+"),
    "devil": Source(
        "dict-devil", "dictd", ("usr/share/dictd/*.index",), "public domain"
    ),
    "foldoc": Source(
        "dict-foldoc", "dictd", ("usr/share/dictd/*.index",), "GFDL-1.1+", 0.7
    ),
    "elements": Source(
        "dict-elements", "dictd", ("usr/share/dictd/*.index",), "public domain"
    ),
    "anarchism": Source("anarchism", "html", _HTML, "GPL-2+"),
    "fortunes": Source(
        "fortunes",
        "fortune",
        ("usr/share/games/fortunes/*",),
        "BSD-style (fortune-mod)",
    ),
    "fortunes-min": Source(
        "fortunes-min",
        "fortune",
        ("usr/share/games/fortunes/*",),
        "BSD-style (fortune-mod)",
    ),
    "fortune-anarchism": Source(
        "fortune-anarchism",
        "fortune",
        ("usr/share/games/fortunes/*",),
        "public domain / GPL-3+",
    ),
    "treasury-of-david": Source(
        "sword-comm-tdavid", "sword", ("usr/share/sword/**/*.?zz",), "public domain"
    ),
    "matthew-henry": Source(
        "sword-comm-mhcc", "sword", ("usr/share/sword/**/*.?zz",), "public domain"
    ),
    "scofield": Source(
        "sword-comm-scofield", "sword", ("usr/share/sword/**/*.?zz",), "public domain"
    ),
    "world-english-bible": Source(
        "sword-text-web", "sword", ("usr/share/sword/**/*.?zz",), "public domain"
    ),
    "jargon": Source(
        "jargon-text", "text", (f"{_DOC}/jargon-text/jargon.txt.gz",), "public domain"
    ),
    "lincity": Source(
        "lincity-ng-data", "html", ("usr/share/**/help/en/*.xml",), "GPL-2+"
    ),
    "wesnoth": Source("wesnoth-1.16-*", "wml", ("usr/share/**/*.cfg",), "GPL-2+"),
    "stellarium": Source(
        "stellarium-data",
        "html",
        (
            "usr/share/stellarium/skycultures/**/*.en.utf8",
            "usr/share/stellarium/landscapes/**/*.en.utf8",
            "usr/share/stellarium/scenery3d/**/*.en.utf8",
        ),
        "GPL-2+",
    ),
    "nethack": Source(
        "nethack-common", "text", (f"{_DOC}/nethack-common/Guidebook.txt.gz",), "NGPL"
    ),
    "crawl": Source(
        "crawl-common",
        "fortune",
        ("usr/share/crawl/dat/descript/*.txt", "usr/share/crawl/dat/database/*.txt"),
        "GPL-2+",
    ),
    "angband": Source(
        "angband-data", "text", ("usr/share/angband/help/*.txt",), "GPL-2 / Angband"
    ),
    "descriptions": Source(
        "",
        "deb822",
        ("*Translation-en*",),
        "as each package (free software descriptions)",
        0.8,
    ),
    "debian-handbook": Source(
        "debian-handbook",
        "html",
        (f"{_DOC}/debian-handbook/html/en-US/**/*.html",),
        "GPL-2+ / CC-BY-SA-3.0",
    ),
    "debian-faq": Source(
        "debian-faq",
        "html",
        (f"{_DOC}/**/*.en.html",),
        "free documentation (verbatim notice)",
    ),
    "debian-reference": Source(
        "debian-reference-en",
        "html",
        ("usr/share/debian-reference/*.en.html",),
        "GPL-2+",
    ),
    "debian-policy": Source("debian-policy", "html", _HTML, "GPL-2+", 0.7),
    "developers-reference": Source(
        "developers-reference",
        "html",
        ("usr/share/developers-reference/*.html",),
        "GPL-2+",
        0.7,
    ),
    "maint-guide": Source(
        "maint-guide", "html", (f"{_DOC}/**/*.en.html",), "GPL-2+", 0.7
    ),
    "harden-doc": Source(
        "harden-doc", "html", (f"{_DOC}/harden-doc/html/en-US/*.html",), "GPL-2"
    ),
    "installation-guide": Source(
        "installation-guide-amd64",
        "html",
        (f"{_DOC}/installation-guide-amd64/en/*.html",),
        "GPL-2",
    ),
    "aptitude": Source("aptitude-doc-en", "html", _HTML, "GPL-2+", 0.7),
    "gnome-user-docs": Source(
        "gnome-user-docs",
        "html",
        ("usr/share/help/C/**/*.page", "usr/share/help/C/**/*.xml"),
        "CC-BY-SA-3.0",
    ),
    "gnucash": Source(
        "gnucash-docs",
        "html",
        (
            "usr/share/help/C/**/*.xml",
            "usr/share/help/C/**/*.docbook",
            f"{_DOC}/gnucash-docs/C/**/*.html",
        ),
        "GPL-2+ / GFDL-1.1+",
    ),
    "evolution": Source(
        "evolution-common", "html", ("usr/share/help/C/**/*.page",), "CC-BY-SA-3.0"
    ),
    "gnumeric": Source(
        "gnumeric-doc", "html", ("usr/share/help/C/**/*.xml",), "GFDL-1.1+", 0.7
    ),
    "gimp-help": Source(
        "gimp-help-en", "html", ("usr/share/gimp/2.0/help/en/*.html",), "GFDL-1.2+"
    ),
    "libreoffice-help": Source(
        "libreoffice-help-en-us",
        "html",
        ("usr/share/libreoffice/help/en-US/text/**/*.html",),
        "MPL-2.0",
        0.8,
    ),
    "r-manuals": Source(
        "r-doc-html", "html", ("usr/share/R/doc/manual/*.html",), "GPL-2", 0.7
    ),
    "octave": Source("octave-doc", "html", _HTML, "GPL-3+", 0.5),
    "csound": Source("csound-doc", "html", _HTML, "GFDL-1.2+", 0.5),
    "puredata": Source(
        "puredata-doc", "html", ("usr/**/*.htm", "usr/**/*.html"), "BSD-3-clause", 0.7
    ),
    "wireshark": Source("wireshark-doc", "html", _HTML, "GPL-2+", 0.5),
    "sqlite": Source("sqlite3-doc", "html", _HTML, "public domain", 0.7),
    "apache": Source(
        "apache2-doc",
        "html",
        (
            "usr/share/doc/apache2-doc/manual/en/**/*.html",
            "usr/share/doc/apache2-doc/manual/**/*.html.en",
        ),
        "Apache-2.0",
        0.7,
    ),
    "git": Source("git-doc", "html", _HTML, "GPL-2", 0.7),
    "exim": Source("exim4-doc-html", "html", _HTML, "GPL-2+", 0.5),
    "perl": Source(
        "perl-doc", "pod", ("usr/share/perl/**/*.pod",), "GPL-1+ / Artistic", 0.7
    ),
    "python": Source(
        "python3.11-doc",
        "html",
        _HTML,
        "PSF-2.0",
        0.6,
        exclude=r"/_sources/|genindex|whatsnew/changelog",
    ),
    "django": Source(
        "python-django-doc",
        "html",
        _HTML,
        "BSD-3-clause",
        0.6,
        exclude=r"/_sources/|genindex|/_modules/",
    ),
    "rust-book": Source(
        "rust-doc",
        "html",
        tuple(
            f"{_DOC}/rust-doc/html/{b}/**/*.html"
            for b in (
                "book",
                "reference",
                "nomicon",
                "cargo",
                "rust-by-example",
                "edition-guide",
                "embedded-book",
            )
        ),
        "MIT / Apache-2.0",
        0.7,
        exclude=r"print\.html|second-edition|first-edition|2018-edition",
    ),
    "postgresql": Source("postgresql-doc-15", "html", _HTML, "PostgreSQL", 0.6),
    "manpages": Source(
        "manpages", "man", ("usr/share/man/man*/*.gz",), "various free", 0.6
    ),
    "manpages-dev": Source(
        "manpages-dev", "man", ("usr/share/man/man*/*.gz",), "various free", 0.4
    ),
    "linux": Source(
        "linux-doc-6.1",
        "html",
        (f"{_DOC}/linux-doc-6.1/html/**/*.html",),
        "GPL-2",
        0.3,
        exclude=r"/translations/|genindex|/_sources/",
    ),
}
