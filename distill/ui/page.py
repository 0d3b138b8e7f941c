"""The page: five tabs over the folder's files."""

from typing import Any

import gradio as gr

from distill.ui.compare_tab import CompareTab
from distill.ui.desk import Desk
from distill.ui.generate_tab import GenerateTab
from distill.ui.library_tab import LibraryTab
from distill.ui.prior_tab import PriorTab
from distill.ui.train_tab import TrainTab
from distill.ui.workspace import Workspace

SECONDS = 1.0  # between looks at the files
CLEANING = (3600, 24 * 3600)  # seconds between removals of uploads, and of the age from which on they are removed
# The script notes where in a folder the files lie that were chosen, which Gradio does not send.
HEAD = """<meta name="viewport" content="width=device-width, initial-scale=1"><script>
document.addEventListener('change', ({target}) => {
  if (target.files) { window.chosenFiles = [...target.files].map((file) => file.webkitRelativePath || file.name); }
}, true);
</script>"""
CSS = """
:root { --d-1: #1668b8; --d-2: #b8481c; --d-3: #1c7c3c; --d-4: #7a3cb0; --d-5: #8a6a00; --d-6: #b0306a; }
.dark { --d-1: #6cb6ff; --d-2: #ff9a6c; --d-3: #6cd08c; --d-4: #c79bff; --d-5: #e0c050; --d-6: #ff8ab8; }
.chart { margin: 0 0 1rem; max-width: 46rem; } .chart svg { width: 100%; height: auto; overflow: visible; }
.chart text { fill: currentColor; font-size: 12px; } .chart .grid { stroke: currentColor; opacity: .18; }
.chart .mark { stroke: currentColor; stroke-dasharray: 3 3; } .chart figcaption { font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .85rem; } .legend svg { width: 28px; display: inline; }
.wide { overflow-x: auto; } .wide table { border-collapse: collapse; width: 100%; font-size: .9rem; }
.wide td, .wide th { padding: .25rem .6rem .25rem 0; text-align: left; min-width: 4.5rem; overflow-wrap: break-word; }
.wide caption { text-align: left; font-weight: 600; }
.note, .warning, .alarm { padding: .5rem .8rem; border-left: .3rem solid var(--d-1); margin: .4rem 0; white-space: pre-line; }
.warning { border-color: var(--d-5); } .alarm { outline: .15rem solid var(--d-2); border-left: .8rem solid var(--d-2); font-weight: 600; }
pre.wide { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; } .small { font-size: .85rem; opacity: .85; } .progress progress { width: 100%; height: 1rem; }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); }
.card { border: 1px solid color-mix(in srgb, currentColor 30%, transparent); border-radius: .5rem; padding: .8rem; }
.card.kept { border: 2px solid var(--d-3); } .card img { width: 100%; height: auto; }
.players { display: grid; gap: .5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 14rem), 1fr)); }
.player { display: grid; gap: .2rem; font-size: .85rem; margin: .3rem 0; } .player audio { width: 100%; height: 2.4rem; }
.verdict { padding: .1rem .5rem; border-radius: 1rem; border: 1px solid currentColor; }
.buttons { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; margin-top: .5rem; }
.buttons button { border: 1px solid currentColor; border-radius: .3rem; padding: .3rem .6rem; background: transparent; }
button:focus-visible, a:focus-visible, input:focus-visible, audio:focus-visible { outline: 3px solid var(--d-1); outline-offset: 2px; }
"""


def theme() -> gr.Theme:
    """A theme with the fonts of the computer, so that nothing is fetched from elsewhere."""
    made = gr.themes.Default(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"], primary_hue="blue"
    )
    # Readable on both grounds: the theme's own greys have too little contrast.
    return made.set(
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
    )


class Page(gr.Blocks):
    """Blocks that take files by upload alone: Gradio itself fetches a file that a request names by a web address."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *rest: Any, **more: Any) -> list[Any]:
        """Inputs of an event as its handler gets them. Raises gr.Error where a file is named by an address."""
        if _names_address(inputs):
            text = "expected a file that was uploaded, found a web address; download the file and choose it"
            raise gr.Error(text, duration=None, title="Not done", print_exception=False)
        prepared: list[Any] = await super().preprocess_data(block_fn, inputs, *rest, **more)
        return prepared


def _names_address(value: Any) -> bool:
    """Whether anything within a value of JSON is a file with an address."""
    if isinstance(value, list):
        return any(map(_names_address, value))
    if not isinstance(value, dict):
        return False
    return "://" in str(value.get("path")) or any(map(_names_address, value.values()))


def build_page(workspace: Workspace) -> gr.Blocks:
    """The page of a working folder."""
    desk = Desk(workspace)
    page: gr.Blocks
    with Page(title="Distill", analytics_enabled=False, fill_width=True, delete_cache=CLEANING) as page:
        gr.Markdown(
            "# Distill\nLearns a generative model of your own sounds, makes new ones, and says how new they are."
        )
        timer = gr.Timer(SECONDS)
        with gr.Tabs():
            with gr.Tab("Train"):
                TrainTab(desk, timer, page)
            with gr.Tab("Prior") as prior:
                PriorTab(desk, timer, page, prior)
            with gr.Tab("Generate") as generate:
                GenerateTab(desk, timer, page, generate)
            with gr.Tab("Library") as library:
                LibraryTab(desk, page, library)
            with gr.Tab("Compare") as compare:
                CompareTab(desk, compare)
    return page
