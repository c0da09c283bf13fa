# Log what the design can resolve according to its pilot, and give the report the answer of a search.
# `lunet smallest` runs the search; it requests ordinary runs from this workflow.

from lunet.study.power import power_sentence

if study.config.pilot is not None and workflow.is_main_process:
    try:
        logger.info(power_sentence(study))
    except LunetError as error:
        raise WorkflowError(str(error)) from None

# no rule makes the answer of a search; if there is one, the report begins with it
VERDICT = f"{RESULTS}/smallest/verdict.json"
ANSWERED = [VERDICT] if os.path.isfile(VERDICT) else []
