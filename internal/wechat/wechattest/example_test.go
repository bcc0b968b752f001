package wechattest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"qunfa/internal/wechat/wechattest"
)

func Example() {
	sim, err := wechattest.New(wechattest.Config{Scale: 1000, Accounts: []wechattest.Account{{Name: "晨光日报", Fans: 1000}}})
	if err != nil {
		panic(err)
	}
	sim.Start()
	defer sim.Close()

	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "success")
	}))
	defer application.Close()
	sim.PointAt(application.URL)

	appid := sim.Accounts()[0].AppID
	_ = sim.Arrange(appid, wechattest.Rejected(20001).Redelivered(1))
	receipt, err := sim.Submit(appid, wechattest.Send{Audience: wechattest.All()})
	if err != nil {
		panic(err)
	}
	if err := sim.Drain(context.Background()); err != nil {
		panic(err)
	}
	truth, _ := sim.Ledger().Find(appid, receipt.MsgID)
	fmt.Println(truth.MsgID, truth.Plan.Status, truth.Outcome, "answered", truth.Answered, "times")
	// Output: 1000000001 err(20001) rejected answered 2 times
}
