// SDE-Drag's picture: a click places a source, the next its target. What is placed is written as JSON into the text
// `points`, which alone counts, so that a script, or a page without this file, fills in the text instead.
import { app } from "../../../scripts/app.js"
import { api } from "../../../scripts/api.js"

const REACH = 9 // how near a pointer must come to an end, in pixels of the page
const ENDS = ["from", "to"]
const COLOURS = { from: "#ff3d7f", to: "#2f8fff" }
const HINT = "Click a source, then its target. Drag an end to move it, right-click it to delete."
const NO_PICTURE = "Run once without points: then the picture shows here. That of Load Image shows at once."
const NO_PAIRS = "The text in points is no list of pairs: correct it, or press Clear."

function isPair(pair) {
    return ENDS.every(end => Array.isArray(pair?.[end]) && pair[end].length === 2 && pair[end].every(Number.isFinite))
}

/** The pairs in a text, [] for an empty one, null where it holds something else. */
function pairsIn(text) {
    try {
        const pairs = JSON.parse(String(text).trim() || "[]")
        return Array.isArray(pairs) && pairs.every(isPair) ? pairs : null
    } catch {
        return null
    }
}

function loaded(image) {
    return image?.complete && image.naturalWidth > 0
}

class Picture {
    constructor(node, points) {
        Object.assign(this, { node, points, past: [], pending: null, held: null, own: null })
        this.element = document.createElement("div")
        this.element.style.cssText = "display:flex;flex-direction:column;gap:4px"
        this.canvas = document.createElement("canvas")
        this.canvas.style.cssText = "flex:1;min-height:0;width:100%;background:#222;cursor:crosshair;touch-action:none"
        this.hint = document.createElement("small")
        this.hint.style.cssText = "color:var(--input-text,#ccc);font:11px sans-serif"
        const buttons = document.createElement("div")
        buttons.style.cssText = "display:flex;gap:4px"
        for (const [name, act] of Object.entries({
            Undo: () => this.undo(),
            Clear: () => this.change(() => this.write([])),
            Export: () => this.export(),
            Import: () => this.import(),
        })) {
            const button = document.createElement("button")
            button.textContent = name
            button.style.cssText = "flex:1;font:11px sans-serif;cursor:pointer"
            button.onclick = act
            buttons.append(button)
        }
        this.element.append(this.canvas, this.hint, buttons)
        this.canvas.onpointerdown = event => this.press(event)
        this.canvas.onpointermove = event => this.move(event)
        this.canvas.onpointerup = event => this.release(event)
        this.canvas.oncontextmenu = event => event.preventDefault()
    }

    get pairs() {
        return pairsIn(this.points.value)
    }

    write(pairs) {
        this.pending = null
        this.points.value = JSON.stringify(pairs)
        this.points.callback?.(this.points.value)
        this.node.setDirtyCanvas?.(true, true)
    }

    /** Do something that Undo takes back. */
    change(act) {
        this.past.push([this.points.value, this.pending])
        act()
        this.draw()
    }

    undo() {
        if (!this.past.length) return
        const [text, pending] = this.past.pop()
        this.points.value = text
        this.points.callback?.(text)
        this.pending = pending
        this.draw()
    }

    /** The picture of a Load Image before this node, else the one that this node was last run with. */
    get image() {
        const slot = this.node.inputs?.findIndex(input => input.name === "image") ?? -1
        const before = slot < 0 ? null : this.node.getInputNode?.(slot)
        const file = before?.widgets?.some(widget => widget.name === "image") && before.imgs?.[0]
        return [loaded(file) ? this.opaque(file) : null, this.own].find(loaded)
    }

    /** The picture of Load Image without its mask, under which it would not be seen. */
    opaque(file) {
        if (this.file?.of !== file.src) {
            const url = new URL(file.src)
            if (url.pathname.endsWith("/view")) url.searchParams.set("channel", "rgb")
            this.file = Object.assign(new Image(), { of: file.src, onload: () => this.draw(), src: url.href })
        }
        return this.file
    }

    /** What a run of this node showed: {picture: [{filename, subfolder, type}]}. */
    ran(output) {
        const file = output?.picture?.[0]
        if (!file) return
        this.own = new Image()
        this.own.onload = () => this.draw()
        this.own.src = api.apiURL(`/view?${new URLSearchParams(file)}`)
    }

    /** How large a pixel of the picture is on the canvas, and where the picture's corner lies. */
    get view() {
        const { width, height } = this.canvas, { naturalWidth, naturalHeight } = this.image
        const scale = Math.min(width / naturalWidth, height / naturalHeight)
        return { scale, left: (width - scale * naturalWidth) / 2, top: (height - scale * naturalHeight) / 2 }
    }

    onCanvas([x, y]) {
        const { scale, left, top } = this.view
        return [left + scale * x, top + scale * y]
    }

    /** Where the pointer is in pixels of the picture, and how many of them REACH is. */
    place(event) {
        const box = this.canvas.getBoundingClientRect(), { scale, left, top } = this.view
        const unit = this.canvas.width / box.width / scale, image = this.image
        const within = (value, size) => Math.round(100 * Math.min(Math.max(value, 0), size)) / 100
        const x = (event.clientX - box.left) * unit - left / scale, y = (event.clientY - box.top) * unit - top / scale
        return { at: [within(x, image.naturalWidth), within(y, image.naturalHeight)], reach: REACH * unit }
    }

    /** The end of a pair that the pointer is on, as [number of the pair, "from" or "to"]. */
    under({ at: [x, y], reach }) {
        const ends = this.pairs.flatMap((pair, k) => ENDS.map(end => [k, end, Math.hypot(pair[end][0] - x, pair[end][1] - y)]))
        return ends.filter(([, , distance]) => distance <= reach).sort((a, b) => a[2] - b[2])[0]
    }

    press(event) {
        event.stopPropagation()
        if (!this.image || !this.pairs) return this.draw()
        const place = this.place(event), found = this.under(place), pairs = this.pairs
        if (event.button === 2 && this.pending) this.change(() => (this.pending = null))
        else if (event.button === 2 && found) this.change(() => this.write(pairs.filter((_, k) => k !== found[0])))
        else if (event.button !== 0) return
        else if (this.pending) this.change(() => this.write([...pairs, { from: this.pending, to: place.at }]))
        else if (found) {
            this.held = found
            this.past.push([this.points.value, null])
            this.canvas.setPointerCapture(event.pointerId)
        } else this.change(() => (this.pending = place.at))
    }

    move(event) {
        event.stopPropagation()
        if (!this.held) return
        const [k, end] = this.held, pairs = this.pairs
        pairs[k][end] = this.place(event).at
        this.write(pairs)
        this.draw()
    }

    release(event) {
        event.stopPropagation()
        if (this.held && this.past.at(-1)[0] === this.points.value) this.past.pop()
        this.held = null
    }

    export() {
        const link = document.createElement("a")
        link.href = URL.createObjectURL(new Blob([this.points.value], { type: "application/json" }))
        link.download = "points.json"
        link.click()
        URL.revokeObjectURL(link.href)
    }

    import() {
        const picker = Object.assign(document.createElement("input"), { type: "file", accept: ".json" })
        picker.onchange = async () => {
            const pairs = pairsIn(await picker.files[0].text())
            if (pairs) this.change(() => this.write(pairs))
            else this.hint.textContent = "The file holds no list of pairs: choose one that Export made."
        }
        picker.click()
    }

    /** Draw again where something changed without a word: the text, the picture, the size. */
    refresh() {
        const seen = [this.points.value, this.image?.src, this.element.offsetWidth, this.element.offsetHeight].join()
        if (seen !== this.seen) this.draw()
        this.seen = seen
    }

    draw() {
        const { canvas, image, pairs } = this, context = canvas.getContext("2d")
        this.hint.textContent = !image ? NO_PICTURE : !pairs ? NO_PAIRS : HINT
        canvas.width = 2 * canvas.offsetWidth
        canvas.height = 2 * canvas.offsetHeight
        if (!image || !canvas.width) return
        const { scale, left, top } = this.view
        context.imageSmoothingEnabled = scale < 4
        context.drawImage(image, left, top, scale * image.naturalWidth, scale * image.naturalHeight)
        for (const { from, to } of pairs ?? []) {
            arrow(context, this.onCanvas(from), this.onCanvas(to))
            dot(context, this.onCanvas(from), COLOURS.from)
            dot(context, this.onCanvas(to), COLOURS.to)
        }
        if (this.pending) dot(context, this.onCanvas(this.pending), COLOURS.from)
    }
}

function dot(context, [x, y], colour) {
    context.beginPath()
    context.arc(x, y, 8, 0, 2 * Math.PI)
    context.fillStyle = colour
    context.fill()
    context.lineWidth = 3
    context.strokeStyle = "white"
    context.stroke()
}

function arrow(context, [x0, y0], [x1, y1]) {
    const angle = Math.atan2(y1 - y0, x1 - x0)
    const tip = side => [x1 - 28 * Math.cos(angle + side), y1 - 28 * Math.sin(angle + side)]
    for (const [width, colour] of [[9, "white"], [4, COLOURS.to]]) {
        context.beginPath()
        context.moveTo(x0, y0)
        context.lineTo(x1, y1)
        context.moveTo(...tip(0.5))
        context.lineTo(x1, y1)
        context.lineTo(...tip(-0.5))
        context.lineWidth = width
        context.strokeStyle = colour
        context.stroke()
    }
}

app.registerExtension({
    name: "confident-ode.drag",
    nodeCreated(node) {
        const points = node.widgets?.find(widget => widget.name === "points")
        if (node.comfyClass !== "CODE_Drag" || !points || !node.addDOMWidget) return
        const picture = new Picture(node, points)
        const options = { serialize: false, hideOnZoom: false, getMinHeight: () => 320, onDraw: () => picture.refresh() }
        node.addDOMWidget("picture", "CODE_DRAG", picture.element, options).serialize = false
        const ran = node.onExecuted
        node.onExecuted = function (output) {
            ran?.apply(this, arguments)
            picture.ran(output)
        }
        node.setSize([Math.max(node.size[0], 340), Math.max(node.size[1], node.computeSize()[1])])
    },
})
