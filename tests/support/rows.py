"""A small data set in the published schema, drawn by hand: six people, three facts each."""

from __future__ import annotations

import io

import datasets
from PIL import Image, ImageDraw

PEOPLE = {
    "ada_birch": ("Ada Birch", "crimson", {"city": "Oslo Bay", "phone": "555 0101", "pet": "a heron"}),
    "ben_crane": ("Ben Crane", "gold", {"city": "New Tarn", "phone": "555 0102", "pet": "a badger"}),
    "cleo_dunn": ("Cleo Dunn", "navy", {"city": "Pell Harbour", "phone": "555 0103", "pet": "an otter"}),
    "dag_ember": ("Dag Ember", "green", {"city": "Upper Quill", "phone": "555 0104", "pet": "a lynx"}),
    "eve_farrow": ("Eve Farrow", "purple", {"city": "Stonewick", "phone": "555 0105", "pet": "a magpie"}),
    "finn_gale": ("Finn Gale", "black", {"city": "Marrow Ford", "phone": "555 0106", "pet": "a stoat"}),
}


def picture(colour: str, shift: int, size: int = 56) -> bytes:
    """A PNG: a disc in the person's colour, at a place that depends on `shift`."""
    image = Image.new("RGB", (size, size), (200, 200 - 5 * (shift % 8), 210))
    x = 6 + 3 * (shift % 5)
    ImageDraw.Draw(image).ellipse((x, 10, x + 28, 40), fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def rows_of(slug: str, first_picture: int = 0) -> list[dict]:
    """A 1-hop and a 2-hop row for each fact of one person, in the nine published columns."""
    name, colour, facts = PEOPLE[slug]
    rows = []
    for index, (attribute, value) in enumerate(facts.items()):
        for hop, subject in ((1, name), (2, "the person in the image")):
            number = first_picture + 2 * index + hop - 1
            path = f"images/{slug}/{number:04d}.png"
            rows.append(
                {
                    "image": {"bytes": picture(colour, number), "path": path},
                    "question": f"What is the {attribute} of {subject}?",
                    "answer": f"The {attribute} of {name} is {value}.",
                    "keywords": value,
                    "question_type": f"{hop}-hop",
                    "qa_category": "personal_information",
                    "attribute": attribute,
                    "cloze_prompt": f"The {attribute} of {name} is",
                    "image_path": path,
                }
            )
    return rows


def write_parquet(folder, splits: dict[str, list[dict]]) -> None:
    """Save rows as the Hub does: `data/<split>-00000-of-00001.parquet`, and a card with the splits."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    card = ["---", "configs:", "- config_name: default", "  data_files:"]
    for split, rows in splits.items():
        table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
        table.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
        card += [f"  - split: {split}", f"    path: data/{split}-*"]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]))


def people_splits() -> dict[str, list[dict]]:
    """The seven splits over PEOPLE: forgetK holds the first K people, retain the last two, test new pictures of all."""
    slugs = list(PEOPLE)
    by_person = {slug: rows_of(slug) for slug in slugs}
    splits = {"finetune": sum(by_person.values(), [])}
    for k in range(1, 5):
        splits[f"forget{k}"] = sum((by_person[slug] for slug in slugs[:k]), [])
    splits["retain"] = sum((by_person[slug] for slug in slugs[4:]), [])
    splits["test"] = sum((rows_of(slug, first_picture=10) for slug in slugs), [])
    return splits
