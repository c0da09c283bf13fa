#!/bin/sh
# status.sh NUMBER: prints running, success or failed.
case $(squeue --noheader --states=all --jobs="$1" --format=%T) in
  COMPLETED) echo success ;;
  PENDING | CONFIGURING | RUNNING | COMPLETING | SUSPENDED | STOPPED | REQUEUE* | RESIZING) echo running ;;
  *) echo failed ;;
esac
