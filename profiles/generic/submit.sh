#!/bin/sh
# submit.sh MB MINUTES CPUS GPUS SCRIPT: submits a script and prints the job's number. Names begin
# with lunet_, by which `lunet recover` finds the jobs.
# Written for SLURM's sbatch. For PBS, for example: qsub -V -l select=1:ncpus=$3:mem=$1mb:ngpus=$4 ...
set -eu
mkdir -p logs/cluster
partition=${LUNET_CPU_PARTITION:-cpu}
gpu=""
if [ "$4" -gt 0 ]; then
  partition=${LUNET_GPU_PARTITION:-gpu}
  gpu="--gpus=$4"
fi
exec sbatch --parsable --account="${LUNET_ACCOUNT:-default}" --partition="$partition" $gpu \
  --job-name="lunet_${5##*/}" --mem="$1" --time="$2" --cpus-per-task="$3" --output=logs/cluster/%j.log "$5"
