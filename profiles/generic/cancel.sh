#!/bin/sh
# cancel.sh NUMBER...: cancels jobs.
exec scancel "$@"
