// Shows on the node that samples where its tiles are, while they are sampled. The messages: nodes/host/live.py.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { RegionMap } from "./region_map.js";

const WIDGET = "adadiffsr_regions";
const MARGINS = 20; // px, that the host leaves within a widget's height, above and below
const GAP = 4; // px, that it leaves between widgets
const maps = new Map(); // by the id of the node that runs: { map, node }

// The node that has this id; within subgraphs the ids of all on the way to it, such as "5:12".
function findNode(id, type) {
  let graph = app.rootGraph ?? app.graph;
  let node = null;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(part);
    graph = node?.subgraph;
  }
  const isSame = node && (node.comfyClass ?? node.type) === type; // or another workflow is open by now
  return isSame ? node : null;
}

function isThere(node) {
  return Boolean(node) && node.graph?.getNodeById(node.id) === node;
}

// Put the map on its node: at a run's beginning, and again where the page has built its nodes anew meanwhile.
function attach(entry, id, type) {
  if (isThere(entry.node)) return;
  const node = findNode(id, type);
  if (!node) return;
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
  if (cells && !isThere(maps.get(id)?.node)) maps.set(id, { map: new RegionMap(), node: null });
  const entry = maps.get(id);
  if (!entry) return; // the page was loaded in the midst of a run
  if (cells) entry.map.begin(detail);
  attach(entry, id, type);
  entry.map.change(tiles);
  if (stories) entry.map.end(stories);
}

async function see({ detail }) {
  const map = maps.get(String(detail.displayNodeId))?.map;
  if (map?.isRunning) map.show(await createImageBitmap(detail.blob));
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
