// Shows on the node that samples where its tiles are, while they are sampled. The messages: nodes/host/live.py.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { RegionMap } from "./region_map.js";

const WIDGET = "adadiffsr_regions";
const MARGINS = 20; // px, that the host leaves within a widget's height, above and below
const GAP = 4; // px, that it leaves between widgets
const runs = new Map(); // by the id of the node that runs: { map, node } for it and each subgraph that it is in

// The node that has this id, and before it the subgraphs that it is in: the id is of all on the way, such as "5:12".
function findNodes(id, type) {
  const nodes = [];
  let graph = app.rootGraph ?? app.graph;
  for (const part of String(id).split(":")) {
    nodes.push(graph?.getNodeById(part));
    graph = nodes.at(-1)?.subgraph;
  }
  const node = nodes.at(-1);
  const isSame = node && (node.comfyClass ?? node.type) === type; // or another workflow is open by now
  return isSame ? nodes : [];
}

function isThere(node) {
  return Boolean(node) && node.graph?.getNodeById(node.id) === node;
}

// Put a map on its node: at a run's beginning, and again where the page has built its nodes anew meanwhile.
function attach(entry, node) {
  if (!node || isThere(entry.node)) return;
  entry.node = node;
  const { map } = entry;
  const before = node.size[1];
  const widget = node.addDOMWidget(WIDGET, "regions", map.element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => map.height + MARGINS,
  });
  widget.serialize = false; // so that saved values keep their places
  if (!LiteGraph.vueNodesMode) {
    // The new renderer makes room by itself.
    const [width, height] = node.computeSize();
    node.setSize([Math.max(node.size[0], width), Math.max(before, height)]);
  }
  keepSavedSize(node, map, before);
  app.canvas.setDirty(true, true);
}

// A workflow is saved as if there were no map, which is not there either when it is opened.
function keepSavedSize(node, map, before) {
  const onSerialize = node.onSerialize;
  node.onSerialize = function (saved) {
    onSerialize?.apply(this, arguments);
    const [width, height] = saved.size;
    const taken = Math.max(map.height, map.element.offsetHeight) + MARGINS + GAP;
    if (height > before) saved.size = [width, Math.max(before, height - taken)];
  };
}

function hear({ detail }) {
  const { node: id, type, cells, tiles, stories } = detail;
  const nodes = findNodes(id, type);
  if (cells && !runs.get(id)?.some(({ node }) => isThere(node))) {
    runs.set(id, String(id).split(":").map(() => ({ map: new RegionMap(), node: null })));
  }
  for (const [place, entry] of (runs.get(id) ?? []).entries()) { // none if the page was loaded in the midst of a run
    if (cells) entry.map.begin(detail);
    attach(entry, nodes[place]);
    entry.map.change(tiles);
    if (stories) entry.map.end(stories);
  }
}

async function see({ detail }) {
  for (const { map } of runs.get(String(detail.displayNodeId)) ?? []) {
    if (map.isRunning) map.show(await createImageBitmap(detail.blob));
  }
}

// The map is an ornament: if it fails, the console says so and the page goes on.
function harmlessly(listener) {
  return async (event) => {
    try {
      await listener(event);
    } catch (error) {
      console.warn("AdaDiffSR: the live region map failed", error);
    }
  };
}

app.registerExtension({
  name: "AdaDiffSR.RegionMap",
  setup() {
    api.addEventListener("adadiffsr.regions", harmlessly(hear));
    api.addEventListener("b_preview_with_metadata", harmlessly(see));
  },
});
