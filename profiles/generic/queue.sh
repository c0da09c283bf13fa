#!/bin/sh
# queue.sh: prints NUMBER|NAME|STATE|FOLDER|COMMENT for each of your jobs that has not ended. FOLDER is
# where the job was submitted. `lunet recover --profile profiles/generic` reads it.
exec squeue --noheader --user="$(id -un)" --format='%A|%j|%T|%Z|%k'
