"""Stage `resolve`: write the settings for training and encoding, with every `auto` resolved for the corpus.

The stages that train and encode depend on these settings, so that a change of an unused tier runs nothing again.
"""

from distill.params import Params
from stages.running import FOLDERS, SETTINGS, run_stage


def main(params: Params) -> None:
    from distill.audio.corpus import MANIFEST, kept_rows, read_manifest
    from distill.storage.files import write_json

    recordings = len(kept_rows(read_manifest(FOLDERS.corpus / MANIFEST)))
    tier, codec, prior = (
        params.tier_name(recordings),
        params.vqvae_config(recordings),
        params.prior_config(recordings),
    )
    resolved = {
        "train_vqvae": {"tier": tier, **codec.model_dump()},
        "encode_codes": {"transpose": prior.transpose},
        "train_prior": {"tier": tier, **prior.model_dump()},
    }
    for stage, values in resolved.items():
        write_json(SETTINGS / f"{stage}.json", values)


if __name__ == "__main__":
    run_stage("resolve", main)
