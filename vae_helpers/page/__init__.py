"""A model's decoder and its controls as one HTML file that needs no kernel and no network."""

from vae_helpers.page.arrays import Arrays, as_text, from_text
from vae_helpers.page.choice import spec_for
from vae_helpers.page.decoding import NotInAPage, half_is_enough, page_decoder, page_encoder
from vae_helpers.page.factors import factor_spec
from vae_helpers.page.html import fragment, front_end, page_html, refreshed, style, write_page
from vae_helpers.page.labels import comparison_spec, label_spec
from vae_helpers.page.latents import component_spec, latent_spec, pad_spec
from vae_helpers.page.specs import Spec

__all__ = [
    "Arrays",
    "NotInAPage",
    "Spec",
    "as_text",
    "comparison_spec",
    "component_spec",
    "factor_spec",
    "fragment",
    "from_text",
    "front_end",
    "half_is_enough",
    "label_spec",
    "latent_spec",
    "pad_spec",
    "page_decoder",
    "page_encoder",
    "page_html",
    "refreshed",
    "spec_for",
    "style",
    "write_page",
]
