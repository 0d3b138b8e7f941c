"""Stage `encode_codes`: encode every recording, training recordings with augmentations."""

from distill.execution import STATE
from distill.params import Params
from stages.running import FOLDERS, run_stage, write_metrics


def main(params: Params) -> None:
    from distill.cluster import executor_of
    from distill.codec.artifact import load_codec
    from distill.codes.encode import code_corpus
    from distill.execution import execution_from_environment
    from distill.process import keep_freed_memory

    keep_freed_memory()
    codec, config = load_codec(FOLDERS.vqvae)
    execution, folders = execution_from_environment(), (FOLDERS.corpus, FOLDERS.codes)
    with executor_of(execution) as executor:
        places = (*folders, params, execution, executor, STATE / "codes")
        metrics = code_corpus(codec, config.codec_sha256, *places, by_label=config.by_label)
    write_metrics("encode_codes", metrics)


if __name__ == "__main__":
    run_stage("encode_codes", main)
