from snakemake.settings.types import GroupSettings

# A job on a cluster runs its steps itself; the plugin would start one more Snakemake for each of
# them, by srun. Rules with options for SLURM stay there: what the profile asks for with `--signal`
# is sent only to what srun has started.
if workflow.remote_exec:
    workflow.group_settings = GroupSettings()  # a member of a group is never local
    workflow.localrules(
        *(rule.name for rule in workflow.rules if "slurm_extra" not in rule.resources)
    )
    # The limits of the profiles, for which jobs request CPUs and memory. Snakemake does not pass
    # them on to a job, and the plugin lets it run one step at a time.
    workflow.register_resource("turn", 1)
    workflow.register_resource("quarter", 4)
    if workflow.nodes is not None:
        workflow.register_resource("_nodes", 4)
