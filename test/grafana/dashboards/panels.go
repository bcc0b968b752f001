package dashboards

// sql makes a target out of a query; its data source is the dashboard's.
func sql(format int, query string) Target {
	return Target{
		RefID: "A", EditorType: "sql", PluginVersion: PluginVersion, RawSQL: query,
		Format: format, QueryType: []string{"timeseries", "table", "logs"}[format],
	}
}

// tile shows one number. Where there is none it shows noValue.
func tile(title, description, unit, noValue, color, query string) *Panel {
	return &Panel{
		Type: "stat", Title: title, Description: description, Targets: []Target{sql(FormatTable, query)},
		FieldConfig: &FieldConfig{
			Defaults:  object{"unit": unit, "noValue": noValue, "color": fixedColor(color), "mappings": []object{}},
			Overrides: []Override{},
		},
		Options: statOptions(""),
	}
}

func statOptions(fields string) object {
	return object{
		"colorMode": "value", "graphMode": "none", "justifyMode": "auto", "textMode": "auto", "orientation": "auto", "wideLayout": true,
		"reduceOptions": object{"calcs": []string{"lastNotNull"}, "fields": fields, "values": false},
	}
}

// alarm is a tile that is green below the limit and red from it on.
func (p *Panel) alarm(limit float64) *Panel {
	p.FieldConfig.Defaults["color"] = object{"mode": "thresholds"}
	p.FieldConfig.Defaults["thresholds"] = above(limit)
	return p
}

// decimals fixes how many digits follow the point.
func (p *Panel) decimals(n int) *Panel {
	p.FieldConfig.Defaults["decimals"] = n
	return p
}

// spoken shows words for values, on a tile whose value is a text.
func (p *Panel) spoken(of []outcome) *Panel {
	p.FieldConfig.Defaults["mappings"] = mapping(of)
	p.Options = statOptions("/.*/")
	return p
}

// text shows a value that is a text.
func (p *Panel) text() *Panel {
	p.Options = statOptions("/.*/")
	return p
}

// link leads from a panel's title to somewhere else.
func (p *Panel) link(title, url string) *Panel {
	p.Links = append(p.Links, object{"title": title, "url": url})
	return p
}

// table shows rows. What it says of no column is a plain text.
func table(title, description, noValue, query string, columns ...column) *Panel {
	return &Panel{
		Type: "table", Title: title, Description: description, Targets: []Target{sql(FormatTable, query)},
		FieldConfig: &FieldConfig{
			Defaults: object{
				"unit": "string", "noValue": noValue, "color": fixedColor(gray),
				"custom": object{"align": "left", "filterable": true, "cellOptions": object{"type": "auto"}},
			},
			Overrides: overrides(columns),
		},
		Options: object{"cellHeight": "sm", "showHeader": true, "footer": object{"show": false, "reducer": []string{"sum"}, "fields": ""}},
	}
}

// Styles of time series.
const (
	lines = "line"
	bars  = "bars"
)

// gap is how far apart two points may be and still be joined: accounts do not send every day.
const gap = 7 * 24 * 3600 * 1000

// series draws values over time.
func series(style, title, description, unit, noValue string, targets []Target, more ...Override) *Panel {
	custom := object{
		"drawStyle": style, "lineWidth": 1, "fillOpacity": 0, "showPoints": "auto", "axisSoftMin": 0,
		"stacking": object{"mode": "none", "group": "A"},
	}
	if style == bars {
		custom["fillOpacity"], custom["lineWidth"], custom["barAlignment"] = 80, 0, 1
		custom["stacking"] = object{"mode": "normal", "group": "A"}
	}
	return &Panel{
		Type: "timeseries", Title: title, Description: description, Targets: targets,
		FieldConfig: &FieldConfig{
			Defaults: object{
				"unit": unit, "noValue": noValue, "min": 0, "color": object{"mode": "palette-classic"}, "custom": custom,
			},
			Overrides: append([]Override{}, more...),
		},
		Options: object{
			"legend":  object{"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []string{}},
			"tooltip": object{"mode": "multi", "sort": "desc"},
		},
	}
}

// daily is a series with a point for each day. The days are those of the view,
// so that no macro can cut them at midnight of another time zone.
func daily(style, title, description, unit, noValue, query string, more ...Override) *Panel {
	p := series(style, title, description, unit, noValue, []Target{sql(FormatTimeSeries, query)}, more...)
	custom := p.FieldConfig.Defaults["custom"].(object)
	if style == lines {
		custom["spanNulls"], custom["showPoints"], custom["pointSize"] = gap, "always", 5
	}
	return p
}

// without says what an empty answer means.
func (p *Panel) without(noValue string) *Panel {
	p.FieldConfig.Defaults["noValue"] = noValue
	return p
}

// ratio fixes the top of the axis: ratios end at 1.
func (p *Panel) ratio() *Panel {
	p.FieldConfig.Defaults["max"] = 1
	return p
}

// named calls series by one of their labels.
func (p *Panel) named(label string) *Panel {
	p.FieldConfig.Defaults["displayName"] = "${__field.labels." + label + "}"
	return p
}

// limit draws a line at a value that matters.
func (p *Panel) limit(at float64) *Panel {
	p.FieldConfig.Defaults["thresholds"] = object{"mode": "absolute", "steps": []object{{"color": "transparent", "value": nil}, {"color": red, "value": at}}}
	p.FieldConfig.Defaults["custom"].(object)["thresholdsStyle"] = object{"mode": "line"}
	return p
}

// logs shows long texts.
func logs(title, description, query string) *Panel {
	return &Panel{
		Type: "logs", Title: title, Description: description, Targets: []Target{sql(FormatLogs, query)},
		FieldConfig: &FieldConfig{Defaults: object{"unit": "string", "noValue": "nothing 没有"}, Overrides: []Override{}},
		Options: object{
			"showTime": true, "wrapLogMessage": true, "prettifyLogMessage": true, "enableLogDetails": true,
			"showLabels": false, "showCommonLabels": false, "sortOrder": "Ascending", "dedupStrategy": "none",
		},
	}
}
