"""All sets of images by name, and the class of each: embedded ones, the user's own copies, and those to fetch."""

from __future__ import annotations

SETS = {
    "photographs": "bench.data.photographs.Photographs",
    "ct-phantoms": "bench.data.phantoms.CtPhantoms",
    "mri-phantoms": "bench.data.phantoms.MriPhantoms",
    "layered-ground": "bench.data.dynamics.LayeredGround",
    "attractor": "bench.data.dynamics.Attractor",
    "CelebA": "bench.data.celeba.CelebA",
    "LoDoPaB-CT": "bench.data.lodopab.LoDoPaB",
    "fastMRI": "bench.data.fastmri.FastMri",
    "fetched-photographs": "bench.data.photographs.FetchedPhotographs",
    "fetched-ct": "bench.data.volumes.FetchedCt",
    "fetched-mri": "bench.data.volumes.FetchedMri",
}
