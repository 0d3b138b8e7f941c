"""Stage `split`: split the recordings into training and held-out."""

from distill.params import Params
from stages.running import FOLDERS, run_stage, write_metrics


def main(params: Params) -> None:
    from distill.codes.store import split_codes

    write_metrics("split", split_codes(FOLDERS.codes, FOLDERS.split, params))


if __name__ == "__main__":
    run_stage("split", main)
