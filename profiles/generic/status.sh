#!/bin/sh
# status.sh NUMBER: prints running, success or failed. A job that is reported as failed loses its
# outputs, so one that the scheduler does not tell of is not.
if ! state=$(squeue --noheader --states=all --jobs="$1" --format=%T 2>&1); then
  case $state in
    *"Invalid job id"*) state= ;;
    *) state=RUNNING ;; # no answer at the moment
  esac
fi
# the queue forgets a job some minutes after its end. Without accounting its outputs decide
if [ -z "$state" ]; then
  state=$(sacct --noheader --allocations --jobs="$1" --format=State 2>/dev/null | head -n 1)
  [ -n "$state" ] || state=COMPLETED
fi
case $state in
  *COMPLETED*) echo success ;;
  *PENDING* | *CONFIGURING* | *RUNNING* | *COMPLETING* | *SUSPENDED* | *STOPPED* | *REQUEUE* | *RESIZING*)
    echo running ;;
  *) echo failed ;;
esac
