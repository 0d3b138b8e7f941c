"""Model card: the facts of a model file, for the terminal and as a Markdown file beside it; and the date it notes."""

import os
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Group
from rich.text import Text

from distill.errors import ParamsError
from distill.model_file.format import VERSION_TEXT, BundleMetadata, size_of
from distill.prior.architectures import ARCHITECTURES
from distill.progress import HEALTH_TITLE, health_table
from distill.storage.files import write_bytes
from distill.text import one_line

Facts = list[tuple[str, str]]

MOST_NAMES = 20
WRITTEN = "written"  # key of the date in `metadata`
VARIABLE = "SOURCE_DATE_EPOCH"  # https://reproducible-builds.org/specs/source-date-epoch/
LONGEST = 5000  # characters of a value or path on the terminal


def facts(metadata: BundleMetadata) -> Facts:
    """Rows (name, value) on sound, codec and prior, from the metadata."""
    codec, spectrogram, prior = metadata.vqvae_config, metadata.spectrogram_config, metadata.prior_config
    rows = [
        ("sound", f"mono, {spectrogram.sample_rate} Hz"),
        (
            "codec",
            f"{codec.num_quantizers} levels of {codec.codebook_size} codewords, {spectrogram.frame_rate:.1f} frames "
            f"per second: {metadata.codec_bits_per_second / 1000:.2f} kbit/s",
        ),
    ]
    if prior is not None and metadata.prior_metadata is not None:
        trained = metadata.prior_metadata
        warning = "" if trained.memorization is None else trained.memorization.message
        rows += [
            (
                "prior",
                f"{prior.architecture}, {prior.num_layers} layers of {prior.hidden_size}, {prior.num_heads} heads, "
                f"context {prior.context_frames / spectrogram.frame_rate:.1f} s"
                + (f" and {beyond}" if (beyond := ARCHITECTURES[prior.architecture].beyond_context) else ""),
            ),
            *([("labels", _some(prior.labels))] if prior.labels else []),
            ("held out", f"perplexity {trained.best_perplexity:.1f} after {trained.epochs_trained} epochs"),
            *([("warning", warning)] if warning else []),
        ]
    else:
        rows.append(("prior", "none: this model encodes and decodes, and cannot generate"))
    return rows + [(key.replace("_", " "), _value(value)) for key, value in metadata.metadata.items()]


def origins(metadata: BundleMetadata) -> Facts:
    """Rows (name, SHA-256) of the file's own weights and of its sources; of a run it is the fingerprint."""
    own = [("weights", metadata.payload_sha256), ("codec", metadata.codec_sha256)]
    made = [
        (key.removesuffix("_sha256").replace("fingerprint", "run").replace("_", " "), _value(value))
        for key, value in metadata.provenance.model_dump().items()
        if value
    ]
    return own + made


def describe(path: Path, metadata: BundleMetadata, columns: int = 80) -> Group:
    """The facts, sources and codebook health of a model file, in lines of at most `columns`.

    Values are wrapped at spaces; a path or hash is never broken, so print it with `crop=False`.
    """
    size = size_of(path) / 1e6
    health = {level: values.model_dump() for level, values in metadata.codebook_health_snapshot.items()}
    return Group(
        _line(one_line(path, most=LONGEST)),
        _line(f"{size:.1f} MB, format {VERSION_TEXT}, weights intact"),
        _line(""),
        *_rows(facts(metadata), columns),
        _line(""),
        *_rows(origins(metadata), columns),
        *((_line(""), health_table(health, HEALTH_TITLE)) if health else ()),
    )


def _rows(rows: Facts, columns: int) -> Iterator[Text]:
    """Names and values in two columns; a value goes on below itself."""
    named = [(one_line(name, most=40), one_line(value, most=LONGEST)) for name, value in rows]
    indent = 2 + max(len(name) for name, _ in named)
    for name, value in named:
        wrapped = textwrap.wrap(value, max(20, columns - indent), break_long_words=False, break_on_hyphens=False)
        for number, part in enumerate(wrapped or [""]):
            yield _line(f"{name if number == 0 else '':{indent}}{part}")


def _line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ignore")


def card_path(model: Path) -> Path:
    """The path of a model file's card: `<file>.md` beside it."""
    return model.with_name(model.name + ".md")


def write_card(model: Path, metadata: BundleMetadata) -> None:
    """Write the card of a model file beside it."""
    write_bytes(card_path(model), card_text(model.name, metadata).encode())


def card_text(name: str, metadata: BundleMetadata) -> str:
    """The model card in Markdown; text from the file is escaped."""
    health = [
        (level, f"{values.utilization:.0%}", f"{values.perplexity:.1f}")
        for level, values in metadata.codebook_health_snapshot.items()
    ]
    quoted = shlex.quote(name)
    recordings = metadata.metadata.get("reference_recordings")
    kept = "It holds no codes of its training recordings, and cannot report the novelty of its sounds."
    if isinstance(recordings, int):
        kept = (
            f"It holds the codes of its {recordings} training recordings, to report the novelty of its sounds. Whoever has the\n"
            "  file can decode them; `bundle.reference: false` leaves them out."
        )
    generating = f"distill generate {quoted} -n 8\n" if metadata.has_prior else ""
    return f"""# {_escaped(name)}

A model of one collection of recordings, made with Distill. It holds a neural codec{
        " and a prior, which makes new sounds" if metadata.has_prior else ""
    }.

{_table(("what", "figures"), facts(metadata))}

Use of the codebooks on held-out recordings:

{_table(("level", "codewords used", "perplexity"), health)}

## Use

```sh
distill verify {quoted}
{generating}distill encode {quoted} recording.wav -o recording.codes
distill decode {quoted} recording.codes -o recording-again.wav
```

## Before you pass it on

- It was trained on somebody's recordings, and its sounds can resemble or repeat them. Whoever owns those recordings
  should agree to what is done with the model.
- {kept}
- It was trained on these recordings alone. The codec reproduces other sounds badly.

## Origin

Distill rewrites this page whenever it writes the model file. {_date(metadata)}

{_table(("what", "SHA-256"), origins(metadata))}
"""


def _date(metadata: BundleMetadata) -> str:
    """When the file was written, where it says so."""
    written = metadata.metadata.get(WRITTEN)
    if isinstance(written, str):
        return f"It was written on {_escaped(written)}."
    return "It holds no date, so that equal\nrecordings, settings and code give equal files."


def _some(names: Sequence[str]) -> str:
    """The first MOST_NAMES names, and the number of the others."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _value(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in lines)


def _escaped(text: str) -> str:
    """Escape text for one line of Markdown."""
    return "".join(_character(character) for character in text)


def _character(character: str) -> str:
    if not character.isprintable():
        return "\N{REPLACEMENT CHARACTER}"
    return "\\" + character if character in r"\`*_[]<>|#!" else character


def date_now() -> str:
    """UTC in ISO 8601, such as 2026-01-31T12:00:00Z; that of SOURCE_DATE_EPOCH where it is set. Raises ParamsError."""
    given = os.environ.get(VARIABLE)
    if given is None:
        return _iso(datetime.now(UTC))
    try:
        return _iso(datetime.fromtimestamp(int(given), UTC))
    except (ValueError, OverflowError, OSError) as error:
        raise ParamsError(
            f"{VARIABLE}: expected a date as whole seconds since 1970, found {given!r}; correct or unset it"
        ) from error


def date_of(seconds: float) -> str:
    """UTC in ISO 8601 of a file's time in seconds since 1970."""
    return _iso(datetime.fromtimestamp(seconds, UTC))


def _iso(date: datetime) -> str:
    return date.strftime("%Y-%m-%dT%H:%M:%SZ")
