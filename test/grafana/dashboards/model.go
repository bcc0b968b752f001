package dashboards

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// SchemaVersion is the version of the classic dashboard JSON, which every
// Grafana from 10 on reads. 42 is the last there will be.
const SchemaVersion = 39

// PluginVersion is the version of the ClickHouse plugin whose form of queries is
// written. Without it the front end takes a query for one of version 3.
const PluginVersion = "4.14.1"

// Values of a target's format, which the plugin's backend obeys.
const (
	FormatTimeSeries = 0
	FormatTable      = 1
	FormatLogs       = 2
)

// object is JSON whose keys Grafana defines; encoding sorts them.
type object = map[string]any

// Dashboard is Grafana's classic dashboard model: the part of it that is used here.
type Dashboard struct {
	UID           string     `json:"uid"`
	Title         string     `json:"title"`
	Description   string     `json:"description"`
	Tags          []string   `json:"tags"`
	SchemaVersion int        `json:"schemaVersion"`
	Version       int        `json:"version"`
	Editable      bool       `json:"editable"`
	GraphTooltip  int        `json:"graphTooltip"` // 1: shared crosshair
	Time          TimeRange  `json:"time"`
	TimeZone      string     `json:"timezone"`
	WeekStart     string     `json:"weekStart"`
	Refresh       string     `json:"refresh"`
	Links         []object   `json:"links"`
	Annotations   list       `json:"annotations"`
	Templating    variables  `json:"templating"`
	Panels        []*Panel   `json:"panels"`
	y             int        // where the next row begins
	source        DataSource // of panels
}

// TimeRange is the range that a dashboard opens with.
type TimeRange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type list struct {
	List []Annotation `json:"list"`
}

type variables struct {
	List []Variable `json:"list"`
}

// DataSource names a data source; UID is a variable of the dashboard.
type DataSource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// Annotation marks moments in the panels.
type Annotation struct {
	Name        string     `json:"name"`
	Type        string     `json:"type,omitempty"`
	BuiltIn     int        `json:"builtIn,omitempty"`
	Enable      bool       `json:"enable"`
	Hide        bool       `json:"hide"`
	IconColor   string     `json:"iconColor"`
	DataSource  DataSource `json:"datasource"`
	Target      *Target    `json:"target,omitempty"`
	Expr        string     `json:"expr,omitempty"` // Prometheus
	Step        string     `json:"step,omitempty"`
	TitleFormat string     `json:"titleFormat,omitempty"`
	TextFormat  string     `json:"textFormat,omitempty"`
}

// Variable is a choice at the top of a dashboard.
type Variable struct {
	Name        string      `json:"name"`
	Label       string      `json:"label"`
	Description string      `json:"description,omitempty"`
	Type        string      `json:"type"` // datasource, query, custom or textbox
	DataSource  *DataSource `json:"datasource,omitempty"`
	Query       string      `json:"query"`
	Definition  string      `json:"definition,omitempty"`
	Refresh     int         `json:"refresh,omitempty"` // 1: when the dashboard loads, 2: when the time range changes
	Regex       string      `json:"regex"`
	Sort        int         `json:"sort"`
	Hide        int         `json:"hide"`
	Multi       bool        `json:"multi"`
	IncludeAll  bool        `json:"includeAll"`
	AllValue    string      `json:"allValue,omitempty"`
	Options     []object    `json:"options,omitempty"`
	Current     object      `json:"current"`
}

// Grid says where a panel is, on a grid of 24 columns.
type Grid struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

// Panel is a panel or the title of a row of them.
type Panel struct {
	ID            int          `json:"id"`
	Type          string       `json:"type"`
	Title         string       `json:"title"`
	Description   string       `json:"description,omitempty"`
	GridPos       Grid         `json:"gridPos"`
	DataSource    *DataSource  `json:"datasource,omitempty"`
	FieldConfig   *FieldConfig `json:"fieldConfig,omitempty"`
	Options       object       `json:"options,omitempty"`
	Interval      string       `json:"interval,omitempty"` // the least that a query groups by
	MaxDataPoints int          `json:"maxDataPoints,omitempty"`
	Links         []object     `json:"links,omitempty"`
	Targets       []Target     `json:"targets,omitempty"`
	Collapsed     *bool        `json:"collapsed,omitempty"` // rows
	Panels        *[]*Panel    `json:"panels,omitempty"`    // rows
}

// FieldConfig says how values look.
type FieldConfig struct {
	Defaults  object     `json:"defaults"`
	Overrides []Override `json:"overrides"`
}

// Override changes the looks of one column or series.
type Override struct {
	Matcher    Matcher    `json:"matcher"`
	Properties []Property `json:"properties"`
}

// Matcher chooses fields.
type Matcher struct {
	ID      string `json:"id"`
	Options string `json:"options"`
}

// Property is one setting of a field.
type Property struct {
	ID    string `json:"id"`
	Value any    `json:"value"`
}

// Target is a query, of ClickHouse or of Prometheus.
type Target struct {
	RefID      string     `json:"refId"`
	DataSource DataSource `json:"datasource"`

	EditorType    string `json:"editorType,omitempty"`
	QueryType     string `json:"queryType,omitempty"`
	PluginVersion string `json:"pluginVersion,omitempty"`
	Format        any    `json:"format"` // a number for ClickHouse, a word for Prometheus
	RawSQL        string `json:"rawSql,omitempty"`

	Expr         string `json:"expr,omitempty"`
	LegendFormat string `json:"legendFormat,omitempty"`
	Instant      bool   `json:"instant,omitempty"`
	Range        bool   `json:"range,omitempty"`
}

// Encode returns the dashboard as its file holds it.
func (d *Dashboard) Encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // SQL is full of < and >
	e.SetIndent("", "  ")
	if err := e.Encode(d); err != nil {
		return nil, fmt.Errorf("dashboard %s: %w", d.UID, err)
	}
	return b.Bytes(), nil
}

// row begins a row with a title of its own.
func (d *Dashboard) row(title string) {
	open, none := false, []*Panel{}
	d.Panels = append(d.Panels, &Panel{
		ID: len(d.Panels) + 1, Type: "row", Title: title, GridPos: Grid{H: 1, W: 24, Y: d.y}, Collapsed: &open, Panels: &none,
	})
	d.y++
}

// line puts panels side by side, each as wide as it says, or else sharing the
// width of the screen.
func (d *Dashboard) line(height int, panels ...*Panel) {
	x := 0
	for _, p := range panels {
		width := p.GridPos.W
		if width == 0 {
			width = 24 / len(panels)
		}
		p.ID, p.GridPos = len(d.Panels)+1, Grid{H: height, W: width, X: x, Y: d.y}
		p.DataSource = &d.source
		for i := range p.Targets {
			p.Targets[i].DataSource = d.source
		}
		d.Panels = append(d.Panels, p)
		x += width
	}
	d.y += height
}

// lines puts panels on as many lines as they need.
func (d *Dashboard) lines(height, perLine int, panels ...*Panel) {
	for some := range slices.Chunk(panels, perLine) {
		d.line(height, some...)
	}
}

// wide sets how many of the 24 columns the panel takes.
func (p *Panel) wide(columns int) *Panel { p.GridPos.W = columns; return p }

// All returns every dashboard.
func All() []*Dashboard {
	return []*Dashboard{delivery(), auditFailures(), message(), missingCallbacks(), pipeline(), accounts()}
}
