"""Kit: an instrument for samplers."""

from typing import TYPE_CHECKING

from distill.kit.settings import KitSettings
from distill.verbs.verb import Verb

if TYPE_CHECKING:
    from distill.generate.context import GenerationContext
    from distill.kit.kit import Kit


def kit(context: "GenerationContext", settings: KitSettings) -> "Kit":
    """Make a sampler's instrument in the folder `out`: new sounds for each of `labels`, by default for all labels.

    A key has `per_label` sounds: one generated sound and takes of it. `keys` gives labels other keys than
    their names do: MIDI numbers or notes, such as {"oh": "F#4"}. A model without labels gives clusters by spectrum. Sounds
    end at EOS, or after `seconds`. Silent sounds and copies are generated again, copies not with `allow_copies`. `out`
    is new, empty, or with `replace` a kit. The same seed gives the same files with the same number of threads. Raises
    ParamsError and ArtifactError.

    With `notes`, as in `generate`, the kit is an instrument over all keys, of one label or of a model without labels. It
    has `per_label` sounds at every `every`-th note, by default at each. Notes that a recording alone cannot give are an
    AudioWarning. With `one_key` it has `round_robins` variations of one sound on one key.
    """
    from distill.generate.requests.generation import seed_or_any
    from distill.kit.make import make_kit

    return make_kit(context, settings.model_copy(update={"seed": seed_or_any(settings.seed)}))


VERB = Verb(
    kit,
    KitSettings,
    "Make an instrument for samplers: new sounds on keys, as SFZ and DecentSampler files.\n\n"
    "Drums are on the keys of General MIDI, other sounds on white keys from C1 (24) upwards. Sounds of a key are takes of "
    "one sound, as round robins. Sounds that are copies of training recordings are left out. With --notes all keys play "
    "one instrument in tune; with --one-key all sounds are on one key.",
    doing="making the kit",
    takes_recording_alone=True,
)
