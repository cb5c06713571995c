"""News and the categories under which their own authors file them: many small tasks over one set of labels.

The examples are those of the profiles of LaMP-2 (Salemi et al. 2023), as X-PEFT takes them (Kwak and Kim 2024, appendix D):
the articles of all profiles with their categories, each once an author. LaMP does not name the authors: a profile holds
what its author wrote, so profiles that share an article are of one author.

A row's group is its author. ``authors`` is all authors together, ``authors_17`` the author 17 alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from peftlib.data.task import Task
from peftlib.errors import DataError, short

CATEGORIES = (
    "business",
    "crime",
    "culture & arts",
    "education",
    "entertainment",
    "food & drink",
    "healthy living",
    "parents",
    "politics",
    "religion",
    "science & technology",
    "sports",
    "style & beauty",
    "travel",
    "women",
)
HUFFPOST = (
    "BLACK VOICES",
    "BUSINESS",
    "COMEDY",
    "CRIME",
    "CULTURE & ARTS",
    "EDUCATION",
    "ENTERTAINMENT",
    "ENVIRONMENT",
    "FOOD & DRINK",
    "HOME & LIVING",
    "IMPACT",
    "LATINO VOICES",
    "MEDIA",
    "MONEY",
    "PARENTING",
    "POLITICS",
    "QUEER VOICES",
    "RELIGION",
    "SCIENCE",
    "SPORTS",
    "STYLE & BEAUTY",
    "TECH",
    "TRAVEL",
    "U.S. NEWS",
    "WEDDINGS",
    "WEIRD NEWS",
    "WELLNESS",
    "WOMEN",
    "WORLD NEWS",
)
FEWEST = 10  # articles of an author of the local stand-in


def rows_of_profile(row: dict) -> list[dict]:
    """One example for each article of a question's profile; a row that names its author is an example itself."""
    if "author_id" in row:
        return rows_of_author(row)
    profile = row["profile"]
    if not isinstance(profile, list) or not profile or not all(isinstance(article, dict) for article in profile):
        raise DataError(
            f"column profile: expected a list of articles, each with a text and a category, got {short(profile)}"
        )
    articles = [{"text": article.get("text"), "category": article.get("category")} for article in profile]
    return [article | {"group": f"{row['id']}"} for article in articles]


def rows_of_author(row: dict) -> list[dict]:
    """The row itself; the group is its author."""
    author = row["author_id"]
    if isinstance(author, bool) or not str(author).isdigit():
        raise DataError(f"column author_id: expected a whole number, got {short(author)}")
    return [row | {"group": str(author)}]


def one_author_each(texts: list[tuple[str, ...]], labels: list[int], profiles: list[str]) -> list[str | None]:
    """The author of each article: profiles that share an article, text and category, are of one, numbered in the order in
    which they come. An article that its author has already is left out."""
    parent = {profile: profile for profile in profiles}

    def root(profile: str) -> str:
        while parent[profile] != profile:
            parent[profile] = profile = parent[parent[profile]]
        return profile

    articles = list(zip(texts, labels, strict=True))
    first: dict[tuple, str] = {}
    for article, profile in zip(articles, profiles, strict=True):
        parent[root(profile)] = root(first.setdefault(article, profile))
    numbers: dict[str, str] = {}
    seen: set[tuple] = set()
    authors: list[str | None] = []
    for article, profile in zip(articles, profiles, strict=True):
        author = numbers.setdefault(root(profile), str(len(numbers)))
        authors.append(None if article in seen else author)
        seen.add(article)
    return authors


def of_ten_articles(texts: list[tuple[str, ...]], labels: list[int], authors: list[str]) -> list[str | None]:
    """The authors of ``FEWEST`` articles or more; the articles of others are left out."""
    written = Counter(authors)
    return [author if written[author] >= FEWEST else None for author in authors]


AUTHORS = Task(
    name="authors",
    kind="classes",
    texts=("text",),
    label="category",
    labels=CATEGORIES,
    metrics=("accuracy", "macro_f1"),
    title="LaMP-2, personalised news categorisation, by author",
    citation="Salemi et al. 2023, LaMP: When Large Language Models Meet Personalization",
    suite="lamp",
    splits="by group",
    source_columns=("id", "profile"),
    rows=rows_of_profile,
    regroup=one_author_each,
    named_labels=True,
)
STAND_INS = {"authors": "news_category"}
TASKS = (
    AUTHORS,
    replace(
        AUTHORS,
        name="news_category",
        label="label",
        labels=HUFFPOST,
        title="Stand-in for LaMP-2: HuffPost articles by their author lines, of ten articles or more",
        citation="Misra 2022, News Category Dataset",
        source_columns=("text", "author_id", "label"),
        rows=rows_of_author,
        regroup=of_ten_articles,
        named_labels=False,
    ),
)
