// Canvases that were saved before an input was there: the front end fills it with the default of a new node. Here it
// gets what the graph meant when it was saved, as prompts of programs do (`nodes/settings.py`).

import { app } from "../../scripts/app.js";

const BEFORE = {
  first_jump: 0.0,
  rule: "paper",
  visit_last: false,
  mask_means: "levels",
  own_networks: false,
};
const NODES = ["AdaDiffSR_RegionAwareKSampler", "AdaDiffSR_RegionAwareSampler", "AdaDiffSR_ColourMatch"];

app.registerExtension({
  name: "AdaDiffSR.OlderGraphs",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!NODES.includes(nodeData.name)) return;
    const configured = nodeType.prototype.onConfigure;
    nodeType.prototype.onConfigure = function (saved) {
      configured?.apply(this, arguments);
      const values = saved?.widgets_values;
      if (!Array.isArray(values)) return;
      const kept = (this.widgets ?? []).filter((widget) => widget.serialize !== false);
      for (const widget of kept.slice(values.length)) {
        if (widget.name in BEFORE) widget.value = BEFORE[widget.name];
      }
    };
  },
});
