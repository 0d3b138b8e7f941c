"""`make bench`: every benchmark, on the corpus and the codec that the last `dvc repro` left."""

from benchmarks import codec

if __name__ == "__main__":
    codec.main()
