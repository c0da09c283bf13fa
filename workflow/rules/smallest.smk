# What the design can resolve, by a pilot, and the answer of a search, for the report.
# The search itself is `lunet smallest`: it decides, and asks this workflow for ordinary runs.

from lunet.study.power import power_sentence

if study.config.pilot is not None and workflow.is_main_process:
    try:
        logger.info(f"{study.name}: {power_sentence(study)}")
    except LunetError as error:
        raise WorkflowError(str(error)) from None

# no rule makes the answer of a search; where there is one, the report opens with it
VERDICT = f"{RESULTS}/smallest/verdict.json"
ANSWERED = [VERDICT] if os.path.isfile(VERDICT) else []
