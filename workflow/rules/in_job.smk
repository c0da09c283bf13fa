from snakemake.settings.types import GroupSettings

# A job on a cluster runs its steps itself; the plugin would start one more Snakemake for each of
# them, by srun. Rules with options for SLURM stay there: what the profile asks for with `--signal`
# is sent only to what srun has started.
if workflow.remote_exec:
    workflow.group_settings = GroupSettings()  # a member of a group is never local
    workflow.localrules(
        *(rule.name for rule in workflow.rules if "slurm_extra" not in rule.resources)
    )
