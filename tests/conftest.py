"""One thread of computation a process: networks of tests are small, and threads that wait for each other cost more."""

import os

for _name, _value in {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}.items():
    os.environ.setdefault(_name, _value)  # for this process, and for those that tests start
