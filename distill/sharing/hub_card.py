"""The hub's model card: `README.md` of a repository, YAML that the hub reads and the card of the model file."""

import yaml

from distill.model_file.card import card_text
from distill.model_file.format import BundleMetadata

LIBRARY = "distill"
PIPELINE_TAG = "audio-to-audio"  # the hub has no task for audio without a prompt


def hub_card(repository: str, name: str, metadata: BundleMetadata, license: str | None) -> str:
    """The text of `README.md` for the model file `name`. Without a `license` it names none."""
    head = {
        **({} if license is None else {"license": license}),
        "library_name": LIBRARY,
        "pipeline_tag": PIPELINE_TAG,
        "tags": ["audio", "neural-audio-codec", *(["audio-generation"] if metadata.has_prior else [])],
    }
    return f"""---
{yaml.safe_dump(head, sort_keys=False)}---

{card_text(name, metadata)}
## Get it

```sh
pip install 'distill-audio[hub]'
distill pull {repository}
```
"""
