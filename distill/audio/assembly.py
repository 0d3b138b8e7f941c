"""Assemble decoded blocks into a corpus: exact copies once, near-duplicates in groups."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from safetensors.numpy import load_file

from distill.audio.blocks import FINGERPRINTS
from distill.audio.corpus import (
    MANIFEST,
    PREFIX,
    ManifestRow,
    kept_rows,
    read_manifest,
)
from distill.audio.near_duplicates import Fingerprint, NearDuplicates, find_near_duplicates
from distill.audio.side_info import SideInfo, read_side_info, write_side_info
from distill.storage.shards import ShardReader, ShardWriter


def assemble(blocks: Sequence[Path], output: Path) -> list[ManifestRow]:
    """Write the shards and side information of a corpus, exact copies once, and return its manifest rows."""
    rows: list[ManifestRow] = []
    originals: dict[str, ManifestRow] = {}  # by pcm_sha256
    fingerprints: list[Fingerprint] = []
    side_info: dict[str, SideInfo] = {}  # by pcm_sha256
    with ShardWriter(output, PREFIX) as shards:
        for block in blocks:
            own = read_manifest(block / MANIFEST)
            sounds = firsts((row for row in own if row.pcm_sha256), "pcm_sha256")
            new = [row for sha256, row in sounds.items() if sha256 not in originals]
            for row, (shard, offset) in zip(
                new, _copied(block, new, len(new) == len(sounds), shards), strict=True
            ):
                originals[row.pcm_sha256] = replace(row, shard=shard, offset=offset)
            prints, own_side_info = (
                load_file(block / FINGERPRINTS),
                read_side_info(block, len(sounds)),
            )
            for row, about in zip(sounds.values(), own_side_info, strict=True):
                side_info.setdefault(row.pcm_sha256, about)
            for row in new:
                fingerprints.append(
                    Fingerprint(
                        *(prints[f"{row.pcm_sha256} {name}"] for name in Fingerprint._fields)
                    )
                )
            rows += own
    related = _related(rows, originals, find_near_duplicates(fingerprints))
    write_side_info(output, [side_info[row.pcm_sha256] for row in kept_rows(related)])
    return related


def firsts(rows: Iterable[ManifestRow], column: str) -> dict[str, ManifestRow]:
    """First row for each value of a column, by value."""
    firsts: dict[str, ManifestRow] = {}
    for row in rows:
        firsts.setdefault(getattr(row, column), row)
    return firsts


def _copied(
    block: Path, rows: Sequence[ManifestRow], are_all: bool, shards: ShardWriter
) -> list[tuple[str, int]]:
    """Add recordings of a block to the shards; return (shard, offset) of each. Links whole shards for `are_all`."""
    if not are_all:
        pcm = ShardReader(block, PREFIX)
        return [shards.append(pcm.read(row.shard, row.offset, row.frames_in_shard)) for row in rows]
    names = {name: shards.add_shard(block / name) for name in sorted({row.shard for row in rows})}
    return [(names[row.shard], row.offset) for row in rows]


def _related(
    rows: Sequence[ManifestRow], originals: Mapping[str, ManifestRow], alike: NearDuplicates
) -> list[ManifestRow]:
    """Complete the rows with shard, group and copies, from the first recording of each sound and its near-duplicates.

    A group is named by its smallest PCM hash, so renaming files does not change it.
    """
    group_of = dict(zip(originals, alike.groups, strict=True))
    names = {group: sha256[:16] for sha256, group in sorted(group_of.items(), reverse=True)}
    notes = _notes([*originals.values()], alike)
    related = []
    for row in rows:
        if row.pcm_sha256:
            original, note = originals[row.pcm_sha256], notes[row.pcm_sha256]
            row = replace(
                row,
                group=names[group_of[row.pcm_sha256]],
                shard=original.shard,
                offset=original.offset,
            )
            if row.recording_id != original.recording_id:
                note = f"exact copy of {original.path}"
                row = replace(row, duplicate_of=original.recording_id)
            if note:
                row = replace(
                    row, status="warned", reason="; ".join(filter(None, [note, row.reason]))
                )
        related.append(row)
    return related


def _notes(originals: Sequence[ManifestRow], alike: NearDuplicates) -> dict[str, str]:
    """Remark by pcm_sha256: whose part or near-duplicate a sound is; "" for the first whole sound of each group."""
    wholes: dict[int, int] = {}
    notes = {}
    for index, (row, group) in enumerate(zip(originals, alike.groups, strict=True)):
        if index in alike.parts:
            part, seconds = alike.parts[index]
            whole = originals[part]
            note = f"part of {whole.path}, at {whole.trimmed_before + seconds:.1f} s"
        else:
            first = wholes.setdefault(group, index)
            note = f"near-duplicate of {originals[first].path}" if first != index else ""
        notes[row.pcm_sha256] = note
    return notes
