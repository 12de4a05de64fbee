"""The one-command stack: real servers as child processes of one supervisor, on one machine, with no docker and no root.

    settings  what an operator may set here        state  folders, secrets, the lock
    server    what a server is                     postgres valkey seaweedfs triton api nginx  the servers, one file each
    shim      how a child is tied to us            supervisor  keeps them running
    canary    is an answer right, not only there   demo  the customer that `make up` shows
    screen    progress on the terminal             __main__  up, down, status, logs

The tests start their PostgreSQL, Valkey and Triton from the same definitions (`tests/conftest.py`).
"""
